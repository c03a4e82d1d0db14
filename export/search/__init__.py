"""`--precision auto`: which nodes may be narrow, found by what they do to the glosses and to the clock."""
