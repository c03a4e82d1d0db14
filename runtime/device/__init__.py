"""What a bundle does on the machine that it was made for. Python 3.8, standard library and numpy only."""
