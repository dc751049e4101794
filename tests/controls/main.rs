//! The test of the tests: each harness here judges something that is known to be wrong, and must say so.

mod a_file_system_lives_on_an_export;
mod a_flipped_byte_is_found;
mod an_unsafe_server_loses_what_it_promised;
mod every_cut_of_the_link_cuts;
