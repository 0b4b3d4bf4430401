"""What a command line may say, a file for each kind of work: its words, and what is done about them."""
