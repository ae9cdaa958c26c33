"""What a pick costs from Python: beside the floor and beside what people use instead."""
