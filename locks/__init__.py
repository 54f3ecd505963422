"""The locked versions, and the programs that read them."""
