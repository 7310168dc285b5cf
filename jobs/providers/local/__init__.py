"""The provider `local`: real sandboxes of this machine, each a folder with a supervisor process of its own."""
