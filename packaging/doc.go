// Package packaging checks what is shipped beside the binaries: the systemd units.
//
// It holds tests only. They ask systemd-analyze, without a running systemd, whether the units are
// valid and how exposed the services are, and keep the lines that promises of gantryd hang on. They
// write to temporary folders only. The package does not know whether the binaries honour the units.
package packaging
