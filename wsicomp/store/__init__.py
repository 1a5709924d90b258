"""The latent store on disk: schema, writer, reader, verification."""
