//! The parameters of a query or of a form (`application/x-www-form-urlencoded`).

use std::collections::BTreeMap;

use imgsync_oci::{Reference, Repository, Tag};

use super::PageError;

/// The most parameters that are read.
const MAX_PARAMETERS: usize = 20;

/// The parameters of a query or of a form. Of those with the same name, the first counts.
#[derive(Debug, Default)]
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Parses a query or a form.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(bytes).take(MAX_PARAMETERS) {
            parameters
                .entry(name.into_owned())
                .or_insert(value.into_owned());
        }
        Self(parameters)
    }

    /// Returns the value of a parameter; empty if it is missing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Returns the repository that the parameter `name` names.
    pub(super) fn repository(&self) -> Result<Repository, PageError> {
        self.text("name").parse().map_err(|_| PageError::NotFound)
    }

    /// Returns the tag or digest in the parameter `reference`.
    pub(super) fn reference(&self) -> Result<Reference, PageError> {
        self.text("reference")
            .parse()
            .map_err(|_| PageError::NotFound)
    }

    /// Returns the tag in a parameter; `None` if it is missing.
    pub(super) fn tag(&self, name: &str) -> Result<Option<Tag>, PageError> {
        let text = Some(self.text(name)).filter(|text| !text.is_empty());
        let parsed = text.map(|text| text.parse().map_err(|_| PageError::NotFound));
        parsed.transpose()
    }

    /// Returns the number of a page, from 1.
    pub(super) fn page(&self) -> usize {
        self.text("page").parse().unwrap_or(1).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_parameters_counts() {
        let parameters = Parameters::parse(b"name=team%2Fapp&name=other&tag=v+1&page=0");
        assert_eq!(parameters.text("name"), "team/app");
        assert_eq!(parameters.repository().unwrap().as_str(), "team/app");
        assert!(parameters.tag("tag").is_err(), "a space is in no tag");
        assert_eq!(parameters.tag("other").unwrap(), None);
        assert_eq!(parameters.page(), 1);
        assert!(Parameters::parse(b"name=../x").repository().is_err());
        assert_eq!(Parameters::parse(b"").text("name"), "");
    }
}
