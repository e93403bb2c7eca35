"""What each command of `seqdsl` does, by the kind of thing it does."""
