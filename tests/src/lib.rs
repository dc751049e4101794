//! Tests with real daemons and real tools (being written).
