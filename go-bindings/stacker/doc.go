// Package stacker is what stacker needs to build puzzlefs images: all that is to be known of the two
// together, with the types that stacker has at hand.
//
// stacker builds images step by step. Each step leaves an overlayfs upperdir, which becomes a layer,
// and the layers' folders are mounted on each other when the next step is run. A puzzlefs image is
// always a whole tree, and its layers are blobs of data. So each step makes a new image of the one
// before it, by [puzzlefs.Delta], whose layers are others; and where stacker keeps what layers an
// image has, it keeps the steps instead, one descriptor with a folder for each.
//
//	output := stacker.Output{OCIDir: config.OCIDir, RootsDir: config.RootFSDir, SourceDateEpoch: config.SourceDateEpoch}
//
//	// The image starts as that of the one it is built on,
//	err := output.TakeOver(ctx, "base", "app")
//	image := output.Image(oci, "app", metadata("base").Layers)
//
//	// gets a step of what was changed,
//	step, changed, err := image.Add(ctx, roots+"/app/overlay", ispec.History{
//		Created:   &now,
//		CreatedBy: "stacker build of app",
//	})
//
//	// and is described for those that are built on it.
//	manifest, err := image.Manifest(ctx)
//
// An image starts in one of four ways:
//
//   - built on another one: [Output.TakeOver]
//   - on a base image of tar layers: [Output.Convert]
//   - on a base image of puzzlefs: by copying it from layout to layout, as it is
//   - on nothing, or an archive: by umoci's NewImage
//
// Base images are looked up by [Lookup], and [Unpacker] fills their folders. Configuration and
// annotations are changed by umoci's Mutator, as of any other image.
//
// A stacker that has a layout for itself needs no lock. One that shares it takes a [Lock], and changes
// tags in [UpdateIndex].
//
// The errors of steps begin with what their history entries say. Functions that take a
// [context.Context] stop soon after it ends. The package needs libpuzzlefs, and is linked with it as
// the package puzzlefs is.
package stacker
