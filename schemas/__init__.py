"""The words: every event and record that travels, as frozen values that know nothing of how they are carried."""
