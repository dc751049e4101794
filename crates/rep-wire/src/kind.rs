//! The kinds of frames, as numbers on the wire.

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a frame carries.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        #[allow(missing_docs)] // each is the message of that name
        pub enum FrameKind {
            $($(#[$doc])* $name = $number,)*
        }

        impl FrameKind {
            /// Every kind.
            pub const ALL: &'static [FrameKind] = &[$(FrameKind::$name,)*];

            /// The kind with this number.
            pub fn from_number(number: u8) -> Option<FrameKind> {
                match number {
                    $($number => Some(FrameKind::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    Write = 1,
    Zero = 2,
    WriteAck = 3,
    Flush = 4,
    FlushAck = 5,
    Read = 6,
    ReadReply = 7,
    ResyncRequest = 8,
    ResyncData = 9,
    ResyncZeroes = 10,
    ResyncRefused = 11,
    ResyncAck = 12,
    Ping = 13,
    Pong = 14,
    ForwardWrite = 15,
    ForwardZero = 16,
    ForwardRead = 17,
    ForwardFlush = 18,
    ForwardAck = 19,
    ForwardData = 20,
    ResyncRuns = 21,
    Control = 32,
}
