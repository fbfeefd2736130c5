//! The names of folders and files with the certificates of a registry, as Docker has them. Pure: no
//! file is read.

use super::System;

/// Returns the name of a registry's folder in the `certs.d` folders. As for Docker, it has no colon on
/// Windows, where no file name has one.
pub(crate) fn registry_folder(registry: &str, system: System) -> String {
    match system {
        System::Windows => registry.replace(':', ""),
        System::Unix | System::MacOs => registry.to_owned(),
    }
}

/// Returns the path at which the user best saves a file with a certificate of a registry, as it is
/// shown. Docker reads it too; Docker Desktop reads only the folder of its user.
pub(crate) fn advised_certificate_path(registry: &str, file: &str, system: System) -> String {
    let folder = registry_folder(registry, system);
    match system {
        System::Unix => format!("/etc/docker/certs.d/{folder}/{file}"),
        System::MacOs => format!("~/.docker/certs.d/{folder}/{file}"),
        System::Windows => format!(r"%USERPROFILE%\.docker\certs.d\{folder}\{file}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_registry_has_its_name_as_far_as_the_system_allows() {
        for (system, expected) in [
            (System::Unix, "/etc/docker/certs.d/localhost:5000/ca.crt"),
            (System::MacOs, "~/.docker/certs.d/localhost:5000/ca.crt"),
            (
                System::Windows,
                r"%USERPROFILE%\.docker\certs.d\localhost5000\ca.crt",
            ),
        ] {
            let path = advised_certificate_path("localhost:5000", "ca.crt", system);
            assert_eq!(path, expected);
        }
    }
}
