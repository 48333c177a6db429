// Packages of this folder, for programs elsewhere that have none of their own.

export * as Y from 'yjs'
export * as encoding from 'lib0/encoding'
