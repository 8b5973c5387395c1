"""One branch, the choice between branches, the encoder, the decoder and the codec object."""
