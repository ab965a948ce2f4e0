//go:build !puzzlefs_static

package capi

// #cgo pkg-config: puzzlefs
import "C"
