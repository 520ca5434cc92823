"""I programmi di ``clients/`` si eseguono, non si importano in cerca di esempi."""

collect_ignore = ["clients"]
