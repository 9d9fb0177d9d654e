"""The sub-commands of `cifarserve`, one file each: arguments in, text and an exit status out."""
