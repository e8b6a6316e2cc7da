// Files that change while they are used: read again when they were touched, so that no event is missed and no watcher runs.

import { readFile, stat } from 'node:fs/promises'

/** Contents of some files, as of the last look. */
export class WatchedFiles {
  readonly #paths: readonly string[]
  #stamp = ''
  #contents: readonly string[] | undefined

  constructor(paths: readonly string[]) {
    this.#paths = paths
  }

  /** What the files hold now: the same array as long as none was touched. */
  async read(): Promise<readonly string[]> {
    // Stamped before it is read: what changes in between is seen by the next look.
    const stamp = (await Promise.all(this.#paths.map(stampOf))).join()
    if (this.#contents === undefined || stamp !== this.#stamp) {
      this.#contents = await Promise.all(this.#paths.map((path) => readFile(path, 'utf8')))
      this.#stamp = stamp
    }
    return this.#contents
  }
}

async function stampOf(path: string): Promise<string> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
  return [dev, ino, size, mtimeNs, ctimeNs].join(':')
}
