/* The physical limit: the container that labkit makes, made by the least C that makes it.
 *
 *     limit ROOTFS WORKDIR RUNS PAUSE process|none|bridge FILTER [CGROUP…]   (absolute paths; WORKDIR is empty)
 *
 * For every run one line: microseconds from the request to the program's first instruction (the
 * program writes CLOCK_MONOTONIC itself, see first.c), and to the moment its end is seen here.
 * `process` is fork+exec with no container at all: the floor under the floor.
 *
 * FILTER is the seccomp program that labkit loads, as an array of struct sock_filter. In every CGROUP,
 * one for each hierarchy, the container has a group of its own. Before every run it sleeps PAUSE microseconds:
 * who starts without a pause finds in the processor's caches what the container before has left there.
 *
 * It runs as root and as a plain user alike: everything lives in a user namespace that maps one id.
 * What is made once for a whole laboratory (bridge, device nodes, empty mask) is outside the clock,
 * as it is in labkit; what every container needs is inside.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_link.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/veth.h>
#include <net/if.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* glibc's <sys/mount.h> and <sched.h> clash with the kernel headers that we need: declare the rest. */
enum { MS_RDONLY_ = 1, MS_NOSUID_ = 2, MS_NODEV_ = 4, MS_NOEXEC_ = 8, MS_BIND_ = 4096, MS_REC_ = 16384, MS_PRIVATE_ = 1 << 18 };
enum { MNT_DETACH_ = 2, QUIET = MS_NOSUID_ | MS_NODEV_ | MS_NOEXEC_ };
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
int unshare(int);

#define MUST(call) must((long)(call), #call, __LINE__)

static long must(long result, const char *what, int line)
{
    if (result < 0) {
        dprintf(2, "limit.c:%d: %s: %s\n", line, what, strerror(errno));
        _exit(70);
    }
    return result;
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void put(const char *path, int flags, const char *text)
{
    int fd = MUST(open(path, O_WRONLY | O_CLOEXEC | flags, 0644));
    MUST(write(fd, text, strlen(text)));
    close(fd);
}

static void write_file(const char *path, const char *text)
{
    put(path, 0, text);
}

static void new_file(const char *path, const char *text)
{
    put(path, O_CREAT | O_EXCL, text);
}

/* ------------------------------------------------------------------ netlink: one batch, one answer */

static char batch[2048];
static int batched;
static struct nlmsghdr *message;

static void begin(int type, int flags, const void *payload, int size)
{
    message = (struct nlmsghdr *)(batch + batched);
    *message = (struct nlmsghdr){.nlmsg_type = type, .nlmsg_flags = flags | NLM_F_REQUEST, .nlmsg_len = NLMSG_LENGTH(size)};
    memcpy(NLMSG_DATA(message), payload, size);
    batched += NLMSG_SPACE(size);
}

static struct rtattr *attribute(int type, const void *data, int size)
{
    struct rtattr *a = (struct rtattr *)((char *)message + NLMSG_ALIGN(message->nlmsg_len));
    a->rta_type = type;
    a->rta_len = RTA_LENGTH(size);
    if (size)
        memcpy(RTA_DATA(a), data, size);
    message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) + RTA_SPACE(size);
    batched = (char *)message - batch + message->nlmsg_len;
    return a;
}

static void close_nest(struct rtattr *a)
{
    a->rta_len = (char *)message + message->nlmsg_len - (char *)a;
}

static void link_up(int index)
{
    struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    begin(RTM_NEWLINK, 0, &link, sizeof link);
}

static int netlink(void)
{
    return MUST(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
}

static void talk(int fd)
{
    struct { struct nlmsghdr header; struct nlmsgerr error; char more[512]; } answer;
    message->nlmsg_flags |= NLM_F_ACK;
    MUST(send(fd, batch, batched, 0));
    MUST(recv(fd, &answer, sizeof answer, 0));
    batched = 0;
    if (answer.header.nlmsg_type == NLMSG_ERROR && answer.error.error) {
        errno = -answer.error.error;
        MUST(-1);
    }
}

static int make_bridge(void)
{
    struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    struct in_addr address = {inet_addr("10.88.0.1")};
    int fd = netlink();
    begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
    attribute(IFLA_IFNAME, "br0", 4);
    struct rtattr *info = attribute(IFLA_LINKINFO, NULL, 0);
    attribute(IFLA_INFO_KIND, "bridge", 6);
    close_nest(info);
    talk(fd);
    int index = if_nametoindex("br0");
    struct ifaddrmsg on = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = index};
    begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &on, sizeof on);
    attribute(IFA_LOCAL, &address, sizeof address);
    attribute(IFA_ADDRESS, &address, sizeof address);
    talk(fd);
    close(fd);
    return index;
}

/* The socket of the laboratory's network is opened before leaving it: it makes the veth pair with one end here. */
static void own_network(int number, int bridge)
{
    int outside = bridge ? netlink() : -1;
    MUST(unshare(CLONE_NEWNET));
    int inside = netlink();
    if (bridge) {
        char name[16];
        int here = MUST(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
        struct ifinfomsg up = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}, peer = {0};
        snprintf(name, sizeof name, "v%d", number);
        begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &up, sizeof up);
        attribute(IFLA_IFNAME, name, strlen(name) + 1);
        attribute(IFLA_MASTER, &bridge, sizeof bridge);
        struct rtattr *info = attribute(IFLA_LINKINFO, NULL, 0);
        attribute(IFLA_INFO_KIND, "veth", 4);
        struct rtattr *data = attribute(IFLA_INFO_DATA, NULL, 0);
        struct rtattr *other = attribute(VETH_INFO_PEER, &peer, sizeof peer);
        attribute(IFLA_IFNAME, "eth0", 5);
        attribute(IFLA_NET_NS_FD, &here, sizeof here);
        close_nest(other);
        close_nest(data);
        close_nest(info);
        talk(outside);
        close(here);
        close(outside);
    }
    link_up(1);
    if (bridge) {
        int index = if_nametoindex("eth0");
        struct in_addr own = {htonl(0x0a580002 + number)}, gateway = {inet_addr("10.88.0.1")};
        struct ifaddrmsg on = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = index};
        struct rtmsg route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
                              .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
        link_up(index);
        begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &on, sizeof on);
        attribute(IFA_LOCAL, &own, sizeof own);
        attribute(IFA_ADDRESS, &own, sizeof own);
        begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route, sizeof route);
        attribute(RTA_GATEWAY, &gateway, sizeof gateway);
    }
    talk(inside);
    close(inside);
}

/* ------------------------------------------------------------------ files */

static int clone_tree(const char *path, int recursive)
{
    return MUST(syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0)));
}

static void attach(int tree, const char *path)
{
    MUST(syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH));
    close(tree);
}

static void mask(void)
{
    static const char *const hidden[] = {"proc/acpi", "proc/asound", "proc/interrupts", "proc/kcore", "proc/keys",
        "proc/latency_stats", "proc/sched_debug", "proc/scsi", "proc/timer_list", "proc/timer_stats",
        "sys/devices/virtual/powercap", "sys/firmware"};
    static const char *const fixed[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    struct stat s;
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (lstat(hidden[i], &s) == 0)
            attach(clone_tree(S_ISDIR(s.st_mode) ? "../empty" : "dev/null", 0), hidden[i]);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (lstat(fixed[i], &s) == 0) {
            struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
            int tree = clone_tree(fixed[i], 0);
            MUST(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr));
            attach(tree, fixed[i]);
        }
}

static void own_files(const char *overlay)
{
    MUST(mount("overlay", "root", "overlay", 0, overlay));
    MUST(chdir("root"));
    MUST(mount("proc", "proc", "proc", QUIET, NULL));
    attach(clone_tree("../dev", 1), "dev");
    MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID_ | MS_NOEXEC_, "newinstance,ptmxmode=0666,mode=0620"));
    MUST(mount("shm", "dev/shm", "tmpfs", QUIET, "mode=1777,size=64m"));
    MUST(mount("mqueue", "dev/mqueue", "mqueue", QUIET, NULL));
    MUST(mount("sysfs", "sys", "sysfs", QUIET | MS_RDONLY_, NULL));
    new_file("etc/hostname", "limit\n");
    new_file("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.88.0.2\tlimit\n");
    new_file("etc/resolv.conf", "# no names here\n");
    mask();
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH_));
    MUST(chdir("/"));
}

/* ------------------------------------------------------------------ privileges */

/* Docker's default set: chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service
 * net_raw sys_chroot mknod audit_write setfcap. */
static const uint64_t kept = 0x00000000a80425fb;

static void drop_capabilities(void)
{
    for (int c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
        if (!(kept >> c & 1))
            MUST(prctl(PR_CAPBSET_DROP, c, 0, 0, 0));
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{(uint32_t)kept, (uint32_t)kept, 0}, {kept >> 32, kept >> 32, 0}};
    MUST(syscall(SYS_capset, &header, data));
}

static struct sock_filter filter[BPF_MAXINSNS];
static struct sock_fprog program = {0, filter};

static void read_filter(const char *path)
{
    int fd = MUST(open(path, O_RDONLY | O_CLOEXEC));
    program.len = MUST(read(fd, filter, sizeof filter)) / sizeof *filter;
    close(fd);
}

static void filter_syscalls(void)
{
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
}

/* ------------------------------------------------------------------ the laboratory and its containers */

static void make_laboratory(const char *lab)
{
    char map[64];
    unsigned uid = geteuid(), gid = getegid();
    MUST(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP));
    write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "0 %u 1", uid);
    write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "0 %u 1", gid);
    write_file("/proc/self/gid_map", map);

    MUST(mount(NULL, "/", NULL, MS_REC_ | MS_PRIVATE_, NULL));
    MUST(mount("tmpfs", lab, "tmpfs", MS_NOSUID_ | MS_NODEV_, "mode=755"));
    MUST(chdir(lab));
    static const char *const directories[] = {"upper", "work", "root", "dev", "empty"};
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        MUST(mkdir(directories[i], 0755));
    MUST(mount("tmpfs", "empty", "tmpfs", QUIET | MS_RDONLY_, "mode=755"));
    MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID_, "mode=755"));
    static const char *const nodes[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        const char *node = nodes[i] + 1; /* the same path, from the laboratory's directory */
        close(MUST(open(node, O_CREAT | O_CLOEXEC, 0644)));
        MUST(mount(nodes[i], node, NULL, MS_BIND_, NULL));
    }
    MUST(mkdir("dev/pts", 0755));
    MUST(mkdir("dev/shm", 0755));
    MUST(mkdir("dev/mqueue", 0755));
}

static void become_program(const char *path, int output)
{
    char *arguments[] = {"first", NULL}, *environment[] = {NULL};
    MUST(dup2(output, 1));
    MUST(syscall(SYS_close_range, 3, ~0U, 0));
    MUST(execve(path, arguments, environment));
}

/* ------------------------------------------------------------------ cgroups */

static char **hierarchies; /* ended by NULL */
static int self;           /* our PID, for names that are nobody else's */

static void make_groups(int number)
{
    char path[5000];
    for (char **hierarchy = hierarchies; *hierarchy; hierarchy++) {
        snprintf(path, sizeof path, "%s/%d-%d", *hierarchy, self, number);
        MUST(mkdir(path, 0755));
    }
}

static void join_groups(int number)
{
    char path[5000];
    for (char **hierarchy = hierarchies; *hierarchy; hierarchy++) {
        snprintf(path, sizeof path, "%s/%d-%d/cgroup.procs", *hierarchy, self, number);
        write_file(path, "0");
    }
}

static void become_container(const char *overlay, int number, int bridge, int output)
{
    join_groups(number);
    MUST(unshare(CLONE_NEWCGROUP));
    own_network(number, bridge);
    own_files(overlay);
    MUST(sethostname("limit", 5));
    setsid();
    drop_capabilities();
    filter_syscalls();
    become_program("/bin/first", output);
}

static pid_t start(const char *rootfs, int number, int bridge, int output)
{
    char upper[32], work[32], overlay[5000];
    snprintf(upper, sizeof upper, "upper/%d", number);
    snprintf(work, sizeof work, "work/%d", number);
    MUST(mkdir(upper, 0755));
    MUST(mkdir(work, 0755));
    make_groups(number);
    snprintf(overlay, sizeof overlay, "lowerdir=%s,upperdir=%s,workdir=%s,userxattr", rootfs, upper, work);
    struct clone_args args = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS, .exit_signal = SIGCHLD};
    pid_t pid = MUST(syscall(SYS_clone3, &args, sizeof args));
    if (pid == 0)
        become_container(overlay, number, bridge, output);
    return pid;
}

static pid_t start_process(const char *rootfs, int output)
{
    char program[5000];
    snprintf(program, sizeof program, "%s/bin/first", rootfs);
    pid_t pid = MUST(fork());
    if (pid == 0)
        become_program(program, output);
    return pid;
}

int main(int argc, char **argv)
{
    if (argc < 7) {
        dprintf(2, "limit ROOTFS WORKDIR RUNS PAUSE process|none|bridge FILTER [CGROUP...]\n");
        return 64;
    }
    read_filter(argv[6]);
    hierarchies = argv + 7;
    self = getpid();
    const char *rootfs = argv[1], *lab = argv[2], *kind = argv[5];
    int runs = atoi(argv[3]), pause = atoi(argv[4]), container = strcmp(kind, "process") != 0, bridge = 0;
    if (container)
        make_laboratory(lab);
    if (strcmp(kind, "bridge") == 0)
        bridge = make_bridge();

    for (int i = 0; i < runs; i++) {
        int ends[2], status;
        char text[32] = "";
        MUST(pipe2(ends, O_CLOEXEC));
        usleep(pause);
        int64_t asked = now();
        pid_t pid = container ? start(rootfs, i, bridge, ends[1]) : start_process(rootfs, ends[1]);
        MUST(waitpid(pid, &status, 0));
        int64_t seen = now();
        if (status) {
            dprintf(2, "limit: status %#x\n", status);
            return 70;
        }
        close(ends[1]);
        MUST(read(ends[0], text, sizeof text - 1));
        close(ends[0]);
        printf("%.1f %.1f\n", (atoll(text) - asked) / 1e3, (seen - asked) / 1e3);
    }
    return 0;
}
