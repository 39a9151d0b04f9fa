"""The commands of slotwise, one group a file; `streams.cli` joins them."""
