"""Images with marked objects: reading them (:mod:`source`), augmenting them (:mod:`transforms`), feeding them to
training (:mod:`loader`)."""
