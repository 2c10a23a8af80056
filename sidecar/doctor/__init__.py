"""What `doctor` looks at: files, ports and disks of this machine, OpenD itself, and ways around the sidecar. It changes nothing."""
