"""Pictures of what a model looks at: its features beside its teacher's, what speaks for a class, where it is unsure."""
