/** What the client of a build lends it while it runs. The classic API brings nothing of the kind. */
export interface BuildClient {
  /** Undefined when the client has no secret of that id. */
  secret(id: string): Promise<Buffer | undefined>;
  /** The path of a socket that leads to the client's ssh agent. @throws when the client has none of that id. */
  agent(id: string): Promise<string>;
}
