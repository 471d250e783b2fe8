"""What people look at: tables and the efficiency frontier. Each file imports the library it draws with, none of them the others."""
