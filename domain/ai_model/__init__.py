"""Models: what runs train. A model follows its runs in their transactions and announces itself in its owner's feed."""
