//! Real daemons, real tools.
