"""Language models: the prefix index and its picker."""
