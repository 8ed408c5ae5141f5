//! The program around a node: settings, models, books, GPU readings, and one API for all of it.

pub mod api;
pub mod settings;
