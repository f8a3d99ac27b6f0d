"""Python over several turns in a stateful interpreter: questions, functions and programs, four levels."""
