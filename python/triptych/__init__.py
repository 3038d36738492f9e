"""triptych: raw text to an aligned chat model, in three panels."""
