"""Who is a member, under which name and address, and how members find each other."""
