"""Where the messages of the interface and the values of the server meet; what a client may send is checked here."""
