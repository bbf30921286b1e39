//! Real agents as real processes: on loopback, and in network namespaces of the tests' own.
