//! The folders of the user, as environment variables name them on each system.

use std::path::PathBuf;

use super::System;

/// Returns the path in an environment variable; `None` if the variable is not set or empty.
pub(crate) fn env_path(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// Returns the user's home folder.
pub(crate) fn home() -> Option<PathBuf> {
    UserPaths::CURRENT.home()
}

/// Returns the folder for data that can be lost at any time.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    UserPaths::CURRENT.cache()
}

/// Returns the folder for data that can be lost, where the user has not named another one.
#[cfg(windows)]
pub(super) fn default_cache_folder() -> Option<PathBuf> {
    UserPaths::CURRENT.default_cache()
}

/// Returns the folder for data that is kept between runs.
pub(crate) fn state_folder() -> Option<PathBuf> {
    UserPaths::CURRENT.state()
}

/// Returns the user's folder for configuration files of other programs. Docker and podman accept a
/// relative path too.
pub(crate) fn config_folder() -> Option<PathBuf> {
    UserPaths::CURRENT.config()
}

/// Returns the folder with the configuration of Docker's client.
pub(crate) fn docker_config_folder() -> Option<PathBuf> {
    env_path("DOCKER_CONFIG").or_else(|| Some(home()?.join(".docker")))
}

/// Returns the `certs.d` folders of Docker and podman in their order, those of the system first.
pub(crate) fn certificate_folders() -> Vec<PathBuf> {
    UserPaths::CURRENT.certificates()
}

/// Returns the configuration files of Docker's daemons: that of the system first, then those of the
/// user.
pub(crate) fn docker_daemon_files() -> Vec<PathBuf> {
    UserPaths::CURRENT.docker_daemons()
}

/// The settings that determine the folders of a user.
struct UserPaths<V> {
    system: System,
    /// Returns the path in an environment variable.
    variable: V,
}

impl UserPaths<fn(&str) -> Option<PathBuf>> {
    /// The folders of the user who runs this program.
    const CURRENT: Self = Self {
        system: System::CURRENT,
        variable: env_path,
    };
}

impl<V: Fn(&str) -> Option<PathBuf>> UserPaths<V> {
    fn get(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name)
    }

    fn home(&self) -> Option<PathBuf> {
        match self.system {
            // Docker's client does not use HOME, which some shells set.
            System::Windows => self.get("USERPROFILE").or_else(|| self.get("HOME")),
            System::Unix | System::MacOs => self.get("HOME"),
        }
    }

    fn cache(&self) -> Option<PathBuf> {
        self.xdg("XDG_CACHE_HOME").or_else(|| self.default_cache())
    }

    /// Returns the folder of [`Self::cache`] where no variable of XDG is set.
    fn default_cache(&self) -> Option<PathBuf> {
        Some(match self.system {
            System::Unix => self.home()?.join(".cache/imgsync"),
            System::MacOs => self.home()?.join("Library/Caches/imgsync"),
            System::Windows => self.local_data()?.join("imgsync").join("cache"),
        })
    }

    fn state(&self) -> Option<PathBuf> {
        self.xdg("XDG_STATE_HOME").or_else(|| {
            Some(match self.system {
                System::Unix => self.home()?.join(".local/state/imgsync"),
                System::MacOs => self.home()?.join("Library/Application Support/imgsync"),
                System::Windows => self.local_data()?.join("imgsync").join("state"),
            })
        })
    }

    fn config(&self) -> Option<PathBuf> {
        let below_home = || Some(self.home()?.join(".config"));
        self.get("XDG_CONFIG_HOME").or_else(below_home)
    }

    /// Returns the folders for all users of this machine that only an administrator can write to. On
    /// Windows every user can create `\etc` on a drive, and a folder of Docker in `%ProgramData%`
    /// that Docker did not create.
    fn system_folders(&self) -> &'static [&'static str] {
        match self.system {
            System::Windows => &[],
            System::Unix | System::MacOs => &["/etc/docker", "/etc/containers"],
        }
    }

    fn certificates(&self) -> Vec<PathBuf> {
        let system = self.system_folders().iter().map(PathBuf::from);
        let docker = self.home().map(|home| home.join(".docker"));
        let config = |name: &str| self.config().map(|folder| folder.join(name));
        let user = [docker, config("docker"), config("containers")];
        let folders = system.chain(user.into_iter().flatten());
        folders.map(|folder| folder.join("certs.d")).collect()
    }

    fn docker_daemons(&self) -> Vec<PathBuf> {
        let rootless = || Some(self.home()?.join(".config/docker/daemon.json"));
        let desktop = || Some(self.home()?.join(".docker/daemon.json"));
        let files = match self.system {
            System::Unix => [Some("/etc/docker/daemon.json".into()), rootless()],
            System::MacOs => [rootless(), desktop()],
            System::Windows => [desktop(), None],
        };
        files.into_iter().flatten().collect()
    }

    /// Returns the tool's folder below the one in an environment variable, if that path is absolute
    /// (XDG Base Directory Specification, "Basics").
    fn xdg(&self, variable: &str) -> Option<PathBuf> {
        let folder = self.get(variable).filter(|path| path.is_absolute());
        folder.map(|folder| folder.join("imgsync"))
    }

    /// Returns the folder of Windows for data that stays on this machine.
    fn local_data(&self) -> Option<PathBuf> {
        let below_home = || Some(self.home()?.join("AppData").join("Local"));
        self.get("LOCALAPPDATA").or_else(below_home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns home, cache and state, with `/` as the separator.
    fn folders(system: System, variables: &[(&str, &str)]) -> [String; 3] {
        let paths = with_variables(system, variables);
        let folders = [paths.home(), paths.cache(), paths.state()];
        folders.map(|folder| folder.map_or_else(String::new, |path| path.display().to_string()))
    }

    fn with_variables(
        system: System,
        variables: &[(&str, &str)],
    ) -> UserPaths<impl Fn(&str) -> Option<PathBuf>> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        UserPaths { system, variable }
    }

    #[test]
    fn each_system_has_its_folders() {
        let home = &[("HOME", "/h")][..];
        assert_eq!(
            folders(System::Unix, home),
            ["/h", "/h/.cache/imgsync", "/h/.local/state/imgsync"]
        );
        assert_eq!(
            folders(System::MacOs, home),
            [
                "/h",
                "/h/Library/Caches/imgsync",
                "/h/Library/Application Support/imgsync"
            ]
        );
        let windows = [
            ("HOME", "/git"),
            ("LOCALAPPDATA", "/u/me/AppData/Local"),
            ("USERPROFILE", "/u/me"),
        ];
        let local = "/u/me/AppData/Local/imgsync";
        let (cache, state) = (format!("{local}/cache"), format!("{local}/state"));
        let expected = ["/u/me", &cache, &state];
        assert_eq!(folders(System::Windows, &windows), expected);
        assert_eq!(folders(System::Windows, &windows[2..]), expected);
        assert_eq!(folders(System::Windows, home)[0], "/h");
    }

    /// Other users of Windows can write to these folders.
    const SHARED: [(&str, &str); 2] = [("HOME", "/h"), ("ProgramData", "/p")];

    #[test]
    fn the_daemons_of_each_system_have_their_files() {
        let unix = ["/etc/docker/daemon.json", "/h/.config/docker/daemon.json"];
        let mac = ["/h/.config/docker/daemon.json", "/h/.docker/daemon.json"];
        for (system, expected) in [
            (System::Unix, &unix[..]),
            (System::MacOs, &mac),
            (System::Windows, &["/h/.docker/daemon.json"]),
        ] {
            let found = with_variables(system, &SHARED).docker_daemons();
            assert_eq!(found, paths(expected), "{system:?}");
        }
    }

    #[test]
    fn certificates_are_read_from_folders_that_other_users_cannot_write_to() {
        let all = [
            "/etc/docker/certs.d",
            "/etc/containers/certs.d",
            "/h/.docker/certs.d",
            "/h/.config/docker/certs.d",
            "/h/.config/containers/certs.d",
        ];
        for (system, expected) in [
            (System::Unix, &all[..]),
            (System::MacOs, &all),
            (System::Windows, &all[2..]),
        ] {
            let found = with_variables(system, &SHARED).certificates();
            assert_eq!(found, paths(expected), "{system:?}");
        }
    }

    fn paths(texts: &[&str]) -> Vec<PathBuf> {
        texts.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn variables_take_precedence_if_their_paths_are_absolute() {
        let all = [
            ("HOME", "/h"),
            ("LOCALAPPDATA", "/l"),
            ("XDG_CACHE_HOME", "/c"),
            ("XDG_STATE_HOME", "/s"),
        ];
        for system in [System::Unix, System::MacOs, System::Windows] {
            let [_, cache, state] = folders(system, &all);
            assert_eq!([&*cache, &*state], ["/c/imgsync", "/s/imgsync"]);
            let relative = [("XDG_CACHE_HOME", "c"), ("XDG_STATE_HOME", "s")];
            let [_, cache, state] = folders(system, &relative);
            assert_eq!([&*cache, &*state], ["", ""], "{system:?}");
        }
    }
}
