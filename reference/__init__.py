"""What is generated from the settings and the fields of keys.json for people and their editors. Not part of the program."""
