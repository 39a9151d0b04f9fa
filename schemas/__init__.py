"""Every event and record that travels, as frozen values. They do not depend on how they are carried."""
