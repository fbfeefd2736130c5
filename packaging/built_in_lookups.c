/* Keeps a static program from loading the modules of the system for names (NSS), for example systemd's
   libnss_resolve. They need the same version of glibc as the program was linked with: on most other systems, the
   first lookup of a host would crash. glibc itself contains the modules for /etc/hosts, DNS and /etc/passwd.
   packaging/build.sh links this file into the static programs. */
#include <nss.h>

__attribute__((constructor)) static void use_built_in_lookups(void)
{
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
    __nss_configure_lookup("services", "files");
}
