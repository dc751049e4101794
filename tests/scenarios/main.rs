//! Real daemons, real tools: one file for each behaviour, named for it.

mod a_frozen_peer_freezes_nobody;
mod a_killed_primary_loses_nothing;
mod a_reconnect_copies_only_what_changed;
mod a_reinstalled_node_is_filled;
mod either_daemon_dies_at_any_moment;
mod the_link_is_lost;
