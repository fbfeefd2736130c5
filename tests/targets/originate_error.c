/* api-ms-win-core-winrt-error-l1-1-0.dll for wine 8: records an error for debuggers, which the tests do not need. */
#include <windows.h>

__declspec(dllexport) BOOL WINAPI RoOriginateErrorW(HRESULT error, UINT size, PCWSTR message) { return FALSE; }
