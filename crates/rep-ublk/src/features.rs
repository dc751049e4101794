//! What a driver can do.

use std::fmt;

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features(pub u64);

impl Features {
    /// The device outlives its server.
    pub const USER_RECOVERY: Features = Features(1 << 3);
    /// Requests in flight when the server died come again.
    pub const USER_RECOVERY_REISSUE: Features = Features(1 << 4);
    /// Commands are encoded as `ioctl`s are.
    pub const IOCTL_ENCODE: Features = Features(1 << 6);
    /// Data is copied by reads and writes of the character device.
    pub const USER_COPY: Features = Features(1 << 7);
    /// A live device can change its size.
    pub const UPDATE_SIZE: Features = Features(1 << 10);

    /// What no device of ours can be without.
    pub const NEEDED: Features =
        Features(Self::USER_RECOVERY.0 | Self::USER_RECOVERY_REISSUE.0 | Self::IOCTL_ENCODE.0 | Self::USER_COPY.0);

    /// Whether all of those are there.
    pub fn has(self, those: Features) -> bool {
        self.0 & those.0 == those.0
    }

    /// The kernel's names of those that have one.
    pub fn names(self) -> Vec<&'static str> {
        NAMES.iter().enumerate().filter(|(bit, _)| self.0 & 1 << bit != 0).map(|(_, name)| *name).collect()
    }

    /// Those that aren't there.
    pub fn lacks(self, those: Features) -> Features {
        Features(those.0 & !self.0)
    }
}

const NAMES: [&str; 14] = [
    "SUPPORT_ZERO_COPY",
    "URING_CMD_COMP_IN_TASK",
    "NEED_GET_DATA",
    "USER_RECOVERY",
    "USER_RECOVERY_REISSUE",
    "UNPRIVILEGED_DEV",
    "CMD_IOCTL_ENCODE",
    "USER_COPY",
    "ZONED",
    "USER_RECOVERY_FAIL_IO",
    "UPDATE_SIZE",
    "AUTO_BUF_REG",
    "QUIESCE",
    "PER_IO_DAEMON",
];

impl fmt::Display for Features {
    /// The kernel's names, with commas between them; what has none as a number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<_> = self.names().into_iter().map(str::to_owned).collect();
        let rest = self.0 >> NAMES.len() << NAMES.len();
        if rest != 0 {
            words.push(format!("{rest:#x}"));
        }
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_too_old_is_told_by_name() {
        let linux_6_1 = Features(0x1f);
        let lacks = linux_6_1.lacks(Features::NEEDED);
        assert_eq!(lacks.to_string(), "CMD_IOCTL_ENCODE, USER_COPY");
        let linux_6_12 = Features(0x1fe);
        assert!(linux_6_12.has(Features::NEEDED) && !linux_6_12.has(Features::UPDATE_SIZE));
        assert_eq!(Features(1 << 40 | 2).to_string(), "URING_CMD_COMP_IN_TASK, 0x10000000000");
    }
}
