"""What providers and pods call to tell us: kept raw first, understood later."""
