//! Tests of assemblies, on a real disk.
