//! The core of models, driven by hand.
