//! Rejects manifests that another program could read differently, because of the names of their
//! fields.
//!
//! Programs in Go, which are most clients and registries, ignore the case of a field's name: for
//! them, `Layers` after `layers` replaces the layers. Start reading at [`check_field_names`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The fields of a manifest that say what it names.
const MANIFEST_FIELDS: [&str; 6] = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "subject",
];
/// The fields of a descriptor that say what it names.
const DESCRIPTOR_FIELDS: [&str; 4] = ["mediaType", "digest", "size", "urls"];

/// Checks that no field of a manifest, or of a descriptor in it, has the name of another field in
/// upper or lower case.
///
/// # Errors
/// Fails on such a name, and on bytes that are not JSON.
pub(super) fn check_field_names(bytes: &[u8]) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    FieldNames::Manifest.deserialize(&mut json)
}

/// The kind of an object whose names are checked.
#[derive(Clone, Copy)]
enum FieldNames {
    Manifest,
    /// A descriptor, or a list of them.
    Descriptor,
}

impl FieldNames {
    fn known(self) -> &'static [&'static str] {
        match self {
            Self::Manifest => &MANIFEST_FIELDS,
            Self::Descriptor => &DESCRIPTOR_FIELDS,
        }
    }
}

impl<'de> DeserializeSeed<'de> for FieldNames {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldNames {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let mut known = self.known().iter();
            if let Some(known) = known.find(|known| **known != name && is_same_in_go(known, &name))
            {
                let text = format!("the field {name:?} can be read as {known:?}");
                return Err(A::Error::custom(text));
            }
            match (self, &*name) {
                (Self::Manifest, "config" | "layers" | "manifests" | "subject") => {
                    map.next_value_seed(Self::Descriptor)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Returns whether Go's `encoding/json` takes a name for that of a field.
fn is_same_in_go(known: &str, name: &str) -> bool {
    let folded = name.chars().map(|c| match c {
        // The only letters outside ASCII that become letters of ASCII: the long s and the sign for
        // kelvin.
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    });
    folded.eq(known.chars().map(|c| c.to_ascii_lowercase()))
}
