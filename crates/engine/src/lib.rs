//! A model becomes tensors on a device; token ids go in and come out.

pub mod message;
