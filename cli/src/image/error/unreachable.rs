//! The hints for a daemon that cannot be reached, which depend on the system.

use super::EngineKind;
use crate::disk::System;

/// Returns what to do if a daemon cannot be reached, or must not be used by this user.
pub(super) fn unreachable_hint(
    engine: EngineKind,
    is_forbidden: bool,
    system: System,
) -> &'static str {
    match (is_forbidden, system) {
        (true, System::Windows) => {
            "your user has no permission to use the named pipe: join the group docker-users (then log \
             in again)"
        }
        (true, _) if engine == EngineKind::Podman => {
            "your user has no permission to use podman's socket: use your own one (systemctl --user \
             start podman.socket), or use sudo"
        }
        (true, _) => {
            "your user has no permission to use the socket: join the group docker (then log in \
             again), or use sudo"
        }
        (false, System::Windows) => {
            "start Docker Desktop, or podman's machine. Set DOCKER_HOST for another named pipe. An \
             archive needs no daemon: imgsync push app.tar REMOTE"
        }
        (false, System::MacOs) => {
            "start Docker Desktop, OrbStack or Colima. Set DOCKER_HOST for another socket, such as that \
             of podman's machine. An archive needs no daemon: imgsync push app.tar REMOTE"
        }
        (false, System::Unix) => {
            "start Docker, or podman's socket (systemctl --user start podman.socket). Set \
             DOCKER_HOST for another socket. An archive needs no daemon: imgsync push app.tar \
             REMOTE"
        }
    }
}

/// Returns what to do if a daemon that an image should be copied to cannot be reached.
pub(super) fn unreachable_target_hint(system: System) -> &'static str {
    match system {
        System::Windows => {
            "start Docker Desktop, or podman's machine. Set DOCKER_HOST for another named pipe. Without \
             a daemon, use imgsync mirror with oci-archive:PATH"
        }
        System::MacOs => {
            "start Docker Desktop, OrbStack or Colima. Set DOCKER_HOST for another socket, such as that \
             of podman's machine. Without a daemon, use imgsync mirror with oci-archive:PATH"
        }
        System::Unix => {
            "start Docker, or podman's socket (systemctl --user start podman.socket). Set DOCKER_HOST \
             for another socket. Without a daemon, use imgsync mirror with oci-archive:PATH"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_what_the_system_has() {
        for (system, is_forbidden, words) in [
            (System::Unix, false, "systemctl"),
            (System::Unix, true, "the group docker "),
            (System::MacOs, false, "OrbStack"),
            (System::Windows, false, "named pipe"),
            (System::Windows, true, "docker-users"),
        ] {
            let hint = unreachable_hint(EngineKind::Docker, is_forbidden, system);
            assert!(hint.contains(words), "{hint}");
            if !is_forbidden {
                let hint = unreachable_target_hint(system);
                assert!(hint.contains(words), "{hint}");
            }
        }
        let podman = unreachable_hint(EngineKind::Podman, true, System::Unix);
        assert!(podman.contains("podman's socket"));
    }
}
