//! The media types of manifests, configs and layers, and what they mean.

/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker's image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// An uncompressed layer of an OCI manifest.
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// An uncompressed layer of Docker's manifest.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// A gzip-compressed layer of Docker's manifest.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// The media types of manifests that the client accepts.
pub const MANIFEST_TYPES: [&str; 4] = [
    OCI_MANIFEST,
    OCI_INDEX,
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
];

/// Reports whether a manifest of this type lists other manifests.
pub fn is_index(media_type: &str) -> bool {
    media_type == OCI_INDEX || media_type == DOCKER_MANIFEST_LIST
}

/// Reports whether a manifest of this type lists a config and layers.
pub fn is_image_manifest(media_type: &str) -> bool {
    media_type == OCI_MANIFEST || media_type == DOCKER_MANIFEST
}

/// Reports whether a blob of this type is the config of a runnable image, which lists diffIDs.
pub fn is_image_config(media_type: &str) -> bool {
    media_type == OCI_CONFIG || media_type == DOCKER_CONFIG
}

/// Reports whether content of this type is a blob and never a manifest. BuildKit's cache, as older
/// versions write it, is an index that lists layers and the config of the cache.
pub fn is_blob(media_type: &str) -> bool {
    Compression::of_media_type(media_type).is_some()
        || is_image_config(media_type)
        || is_non_distributable(media_type)
        || media_type.starts_with("application/vnd.buildkit.cacheconfig.")
}

/// Reports whether layers of this type are never stored in a registry but downloaded from their
/// `urls` (OCI image-spec, "Non-Distributable Layers"; Docker's foreign layers).
pub fn is_non_distributable(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

/// The compression of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Uncompressed: the blob is the tar, and its digest is the diffID.
    None,
    /// gzip, of one or several members.
    Gzip,
    /// zstd.
    Zstd,
}

impl Compression {
    /// Detects the compression from the first bytes of a layer; four bytes are enough.
    pub fn of_bytes(start: &[u8]) -> Self {
        if start.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::None
        }
    }

    /// Returns the compression that a media type names; `None` for a type that is no layer of a
    /// file system.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        let all = [Self::None, Self::Gzip, Self::Zstd];
        let types = |this: Self| [this.oci_layer_type(), this.docker_layer_type()];
        all.into_iter()
            .find(|this| types(*this).contains(&media_type))
    }

    /// Returns the media type of a layer with this compression in an OCI manifest.
    pub fn oci_layer_type(self) -> &'static str {
        match self {
            Self::None => OCI_LAYER,
            Self::Gzip => OCI_LAYER_GZIP,
            Self::Zstd => OCI_LAYER_ZSTD,
        }
    }

    /// Returns the media type of a layer with this compression in Docker's manifest.
    pub fn docker_layer_type(self) -> &'static str {
        match self {
            Self::None => DOCKER_LAYER,
            Self::Gzip => DOCKER_LAYER_GZIP,
            Self::Zstd => DOCKER_LAYER_ZSTD,
        }
    }
}
