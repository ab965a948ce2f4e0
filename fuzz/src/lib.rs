//! What several fuzz targets share.

pub mod documents;
pub mod metadata;
pub mod sandbox;
