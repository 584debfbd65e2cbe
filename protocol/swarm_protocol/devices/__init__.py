"""Look up hardware, access lines and places by name.

    table     data sheets of devices             names   from a driver's or a person's words to a row of the table
    machines  the GPUs of one machine            access  internet access by kind
    places    cities and round trips between them

Imported where a name has to be looked up, and read from disk at the first look-up.
"""
