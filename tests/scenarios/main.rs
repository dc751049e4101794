//! Real daemons, real tools: one file for each behaviour, named for it.

mod a_clean_restart;
mod a_disk_fails_and_is_replaced_under_load;
mod a_file_system_on_the_pair;
mod a_frozen_peer_freezes_nobody;
mod a_killed_primary_loses_nothing;
mod a_lost_peer_is_fenced;
mod a_reconnect_copies_only_what_changed;
mod a_reinstalled_node_is_filled;
mod a_resync_is_interrupted;
mod a_verify_finds_what_differs;
mod an_archive_gives_back_what_was_given_up;
mod an_operator_s_bad_days;
mod bad_configuration;
mod bad_disks;
mod bad_peers;
mod either_daemon_dies_at_any_moment;
mod the_command_line;
mod the_demo;
mod the_link_is_lost;
mod the_packaging;
mod the_readme_tells_the_truth;
mod the_roles_are_switched;
mod the_tools_of_others;
mod the_two_went_apart;
mod volumes_stand_alone_and_wait_in_one_order;
