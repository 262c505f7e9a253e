"""Local features: computed, kept between windows, and computed again where that shows."""
